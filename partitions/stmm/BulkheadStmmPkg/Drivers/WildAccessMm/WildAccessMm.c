/** @file
  A partition gone wrong, on request: reads, writes or executes at the address that the normal world names.

  It exists to show that the SPMC contains such an access. Nothing here checks anything, on purpose.
**/

#include <PiMm.h>

#include <Library/MmServicesTableLib.h>
#include <Library/SerialPortLib.h>

#include <Guid/WildAccess.h>

/**
  Does what the request says.

  @param[in]      DispatchHandle  Not used.
  @param[in]      Context         Not used.
  @param[in, out] CommBuffer      A WILD_ACCESS_REQUEST.
  @param[in, out] CommBufferSize  Its size.

  @retval EFI_SUCCESS            The access came back.
  @retval EFI_INVALID_PARAMETER  This is not such a request.
**/
STATIC
EFI_STATUS
EFIAPI
WildAccessHandler (
  IN     EFI_HANDLE  DispatchHandle,
  IN     CONST VOID  *Context         OPTIONAL,
  IN OUT VOID        *CommBuffer      OPTIONAL,
  IN OUT UINTN       *CommBufferSize  OPTIONAL
  )
{
  WILD_ACCESS_REQUEST  *Request;

  if ((CommBuffer == NULL) || (CommBufferSize == NULL) || (*CommBufferSize < sizeof (*Request))) {
    return EFI_INVALID_PARAMETER;
  }

  Request = CommBuffer;
  switch (Request->Kind) {
    case WILD_ACCESS_READ:
      Request->Value = *(volatile UINT64 *)(UINTN)Request->Address;
      break;
    case WILD_ACCESS_WRITE:
      *(volatile UINT64 *)(UINTN)Request->Address = Request->Value;
      break;
    case WILD_ACCESS_EXECUTE:
      ((VOID (*)(VOID))(UINTN)Request->Address)();
      break;
    default:
      return EFI_INVALID_PARAMETER;
  }

  Request->Survived = 1;
  return EFI_SUCCESS;
}

/**
  Registers the handler.

  @param[in] ImageHandle    Not used.
  @param[in] MmSystemTable  Not used.

  @return Status of the registration.
**/
EFI_STATUS
EFIAPI
WildAccessInitialize (
  IN EFI_HANDLE           ImageHandle,
  IN EFI_MM_SYSTEM_TABLE  *MmSystemTable
  )
{
  STATIC UINT8  Warning[] = "StMM: test image, accesses any address on request\n";
  EFI_HANDLE    Handle;

  SerialPortWrite (Warning, sizeof (Warning) - 1);
  return gMmst->MmiHandlerRegister (WildAccessHandler, &gBulkheadWildAccessGuid, &Handle);
}
