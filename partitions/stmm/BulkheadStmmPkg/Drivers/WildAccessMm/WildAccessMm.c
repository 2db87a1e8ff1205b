/** @file
  A partition gone wrong, on request: reads, writes or executes at the address that a message names, or the value of a variable of
  gBulkheadWildAccessGuid, which whoever can write a variable can send, Linux and trusted applications too.

  It exists to show that the SPMC contains such an access. Nothing here checks anything, on purpose.
**/

#include <PiMm.h>

#include <Library/BaseMemoryLib.h>
#include <Library/MmServicesTableLib.h>
#include <Library/SerialPortLib.h>

#include <Guid/WildAccess.h>
#include <Protocol/SmmVarCheck.h>

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
  Looks at what is to be written to a variable, and does it if it is a request.

  @param[in] VariableName  Not used.
  @param[in] VendorGuid    gBulkheadWildAccessGuid for a request.
  @param[in] Attributes    Not used.
  @param[in] DataSize      Its size.
  @param[in] Data          A WILD_ACCESS_REQUEST.

  @retval EFI_SUCCESS       This is not such a request.
  @retval EFI_DEVICE_ERROR  The access came back.
**/
STATIC
EFI_STATUS
EFIAPI
WildVariable (
  IN CHAR16    *VariableName,
  IN EFI_GUID  *VendorGuid,
  IN UINT32    Attributes,
  IN UINTN     DataSize,
  IN VOID      *Data
  )
{
  WILD_ACCESS_REQUEST  Request;

  if (!CompareGuid (VendorGuid, &gBulkheadWildAccessGuid) || (DataSize != sizeof (Request))) {
    return EFI_SUCCESS;
  }

  CopyMem (&Request, Data, DataSize);
  WildAccessHandler (NULL, NULL, &Request, &DataSize);
  return EFI_DEVICE_ERROR;
}

/**
  Registers the handlers.

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
  STATIC UINT8                  Warning[] = "StMM: test image, accesses any address on request\n";
  EFI_STATUS                    Status;
  EFI_HANDLE                    Handle;
  EDKII_SMM_VAR_CHECK_PROTOCOL  *Variables;

  SerialPortWrite (Warning, sizeof (Warning) - 1);
  Status = gMmst->MmLocateProtocol (&gEdkiiSmmVarCheckProtocolGuid, NULL, (VOID **)&Variables);
  if (!EFI_ERROR (Status)) {
    Status = Variables->SmmRegisterSetVariableCheckHandler (WildVariable);
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  return gMmst->MmiHandlerRegister (WildAccessHandler, &gBulkheadWildAccessGuid, &Handle);
}
