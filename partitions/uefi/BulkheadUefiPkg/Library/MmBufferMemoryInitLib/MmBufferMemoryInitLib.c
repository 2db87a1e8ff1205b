/** @file
  Declares the machine's RAM to UEFI, without the MM communication buffer.

  MmCommunicationDxe adds the buffer to the memory map by itself, as reserved run-time memory, and fails when it is RAM
  already. So RAM is declared here in two pieces, one on each side of the buffer; the translation tables cover all of it.
**/

#include <PiPei.h>

#include <Library/ArmMmuLib.h>
#include <Library/ArmVirtMemInfoLib.h>
#include <Library/BaseLib.h>
#include <Library/HobLib.h>
#include <Library/PcdLib.h>

/// In PrePiHobLib, which has no header for it.
VOID
BuildMemoryTypeInformationHob (
  VOID
  );

/**
  Declares one piece of RAM.

  @param[in] Base  Where it begins.
  @param[in] End   First address after it; may equal Base.
**/
STATIC
VOID
DeclareRam (
  IN UINT64  Base,
  IN UINT64  End
  )
{
  if (Base < End) {
    BuildResourceDescriptorHob (
      EFI_RESOURCE_SYSTEM_MEMORY,
      EFI_RESOURCE_ATTRIBUTE_PRESENT |
      EFI_RESOURCE_ATTRIBUTE_INITIALIZED |
      EFI_RESOURCE_ATTRIBUTE_WRITE_BACK_CACHEABLE |
      EFI_RESOURCE_ATTRIBUTE_TESTED,
      Base,
      End - Base
      );
  }
}

/**
  Declares RAM and turns the MMU on. Called once, early, by the first phase of the firmware.

  @param[in] UefiMemoryBase  Not used: the caller has told the HOB library.
  @param[in] UefiMemorySize  Not used.

  @retval EFI_SUCCESS  UEFI has memory and an MMU.
  @return Otherwise what ArmConfigureMmu() found wrong.
**/
EFI_STATUS
EFIAPI
MemoryPeim (
  IN EFI_PHYSICAL_ADDRESS  UefiMemoryBase,
  IN UINT64                UefiMemorySize
  )
{
  EFI_STATUS                    Status;
  UINT64                        RamBase;
  UINT64                        RamEnd;
  UINT64                        BufferBase;
  UINT64                        BufferEnd;
  ARM_MEMORY_REGION_DESCRIPTOR  *MemoryMap;
  VOID                          *Table;
  UINTN                         TableSize;

  RamBase    = PcdGet64 (PcdSystemMemoryBase);
  RamEnd     = RamBase + PcdGet64 (PcdSystemMemorySize);
  BufferBase = FixedPcdGet64 (PcdMmBufferBase);
  BufferEnd  = BufferBase + FixedPcdGet64 (PcdMmBufferSize);
  if ((BufferBase < RamBase) || (BufferEnd > RamEnd)) {
    // This firmware is loaded above the buffer, so there is RAM there or nothing runs at all.
    CpuDeadLoop ();
  }

  DeclareRam (RamBase, BufferBase);
  DeclareRam (BufferEnd, RamEnd);

  ArmVirtGetMemoryMap (&MemoryMap);
  Status = ArmConfigureMmu (MemoryMap, &Table, &TableSize);

  if (FeaturePcdGet (PcdPrePiProduceMemoryTypeInformationHob)) {
    BuildMemoryTypeInformationHob ();
  }

  return Status;
}
